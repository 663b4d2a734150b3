"""The model manager: models and service packages of a compute node, fetched from the hub and kept whole."""
