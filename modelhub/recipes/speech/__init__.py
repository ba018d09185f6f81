"""Speech to text: log-mel spectrograms, convolutions, bidirectional GRUs, connectionist temporal classification."""

from modelhub.recipes.speech.recipe import SpeechRecognizer

__all__ = ["SpeechRecognizer"]
