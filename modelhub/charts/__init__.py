"""Drawings of what trainings and evaluations found, as SVG: readable by programs and people, in light and in dark."""

from modelhub.charts.confusion import confusion
from modelhub.charts.curves import curves
from modelhub.charts.mistakes import mistakes
from modelhub.charts.reliability import reliability

__all__ = ["confusion", "curves", "mistakes", "reliability"]
