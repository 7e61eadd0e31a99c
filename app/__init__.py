"""A drop-in whisper-asr-webservice that runs WhisperX."""

__version__ = "1.0.0"
