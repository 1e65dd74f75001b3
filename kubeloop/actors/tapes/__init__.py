"""Record and replay: what actors heard is kept on tapes, and they live through it again."""

from kubeloop.actors.tapes.recording import Recording, record
from kubeloop.actors.tapes.replaying import Diverged, Step, replay
from kubeloop.actors.tapes.tape import Life, Moment, Tape, TapeDamaged, cut_at, read

__all__ = [
    "Diverged",
    "Life",
    "Moment",
    "Recording",
    "Step",
    "Tape",
    "TapeDamaged",
    "cut_at",
    "read",
    "record",
    "replay",
]
