"""What do hook points cost while nobody hooks them?

    python -m benchmarks.hooks

Our model against its own source with every hook point taken out, same weights, in one run: forward,
and forward with backward.
"""

import importlib.util
import re
import sys
import tempfile
from pathlib import Path

import torch

import gpt.model
from benchmarks.timing import interleaved, ratio
from gpt import GPT
from gpt.train import PRESETS


def without_hooks() -> type[GPT]:
    """The model's class from its source without hook points and without asking who watches."""
    text = Path(gpt.model.__file__).read_text(encoding="utf-8")
    text, checks = re.subn(r"watched\([^)]*\)", "False", text)
    text, calls = re.subn(r"self\.hook_\w+\((.+)\)\n", r"\1\n", text)
    text, points = re.subn(r"\n *self\.hook_\w+ = (Hook|Fork)Point\(\).*", "", text)
    if not (checks == 3 and calls == points == 21):
        sys.exit(f"the source has changed: {checks} checks, {calls} calls, {points} hook points")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unhooked.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("unhooked", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["unhooked"] = module
        spec.loader.exec_module(module)
    return module.GPT


def main() -> None:
    plain_class = without_hooks()
    print(f"{'size':<8}{'pass':<18}{'hooked / without':>18}{'middle half':>18}")
    for size, rows, repeat, rounds in (("laptop", 12, 8, 300), ("course", 2, 1, 60)):
        preset = PRESETS[size]
        tokens = torch.randint(preset.model.vocab_size, (rows, preset.model.block_size))
        hooked, plain = GPT(preset.model).eval(), plain_class(preset.model).eval()
        assert len(hooked.hook_dict) > 0 and len(plain.hook_dict) == 0
        assert torch.equal(hooked(tokens), plain(tokens))

        def forward(model: GPT, tokens=tokens, repeat=repeat) -> None:
            with torch.no_grad():
                for _ in range(repeat):
                    model(tokens, tokens, return_type="loss")

        def both(model: GPT, tokens=tokens, repeat=repeat) -> None:
            for _ in range(repeat):
                model.zero_grad(set_to_none=True)
                model(tokens, tokens, return_type="loss").backward()

        for name, run in (("forward", forward), ("forward+backward", both)):
            models = {"hooked": hooked, "plain": plain}
            seconds = interleaved({k: lambda m=m, f=run: f(m) for k, m in models.items()}, rounds)
            middle, low, high = ratio(seconds, "hooked", "plain")
            print(f"{size:<8}{name:<18}{middle:>18.3f}{f'{low:.3f} to {high:.3f}':>18}")


if __name__ == "__main__":
    main()
