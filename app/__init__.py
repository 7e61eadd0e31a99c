"""A drop-in whisper-asr-webservice that runs WhisperX."""

__version__ = "0.1.0"
