"""The model hub: publishes model files and packages of node services (model-hub)."""
