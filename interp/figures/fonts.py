"""Which fonts does this machine draw text with?"""

from matplotlib.font_manager import fontManager

# DejaVu comes with matplotlib: it looks the same everywhere. What it lacks, Chinese or emoji, is
# taken from the first of these that this machine has; fonts of coloured bitmaps cannot be drawn.
WIDER = [
    name
    for name in (
        *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP"),
        *("Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
        *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "SimHei", "MS Gothic"),
        *("Noto Emoji", "Symbola", "Segoe UI Emoji", "Noto Sans Symbols2", "Arial Unicode MS"),
        *("Unifont", "Unifont Upper"),
    )
    if name in fontManager.get_font_names()
]
SANS, MONO = ["DejaVu Sans", *WIDER], ["DejaVu Sans Mono", *WIDER]
