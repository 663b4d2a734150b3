"""linguad: the central server of the Lingua real-time speech-translation network."""

__version__ = "0.1.0"
