"""Where does a benchmark run, and when is a device done with what it was asked?"""

import argparse

import torch


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, with ``--device`` beside the parser's own options."""
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, and torch finds no GPU here")
    return arguments


def name_of(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "processor"


def wait_for_gpu() -> None:
    """Return once a GPU, where this process uses one, has done what it was asked."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
