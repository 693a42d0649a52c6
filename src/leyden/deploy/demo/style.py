"""Theme and CSS of the demo's pages. No font or file comes from outside this machine."""

from typing import Any

CSS = """
.gradio-container {width: 100% !important; max-width: 1080px !important; margin: 0 auto !important;}
.part, .part .html-container {padding: 0 !important;}
.part {color: var(--body-text-color); overflow: visible !important;}
.heading h1 {font-size: 1.8rem; line-height: 1.2; font-weight: 680; letter-spacing: -.02em; margin: .3rem 0 .15rem;
  overflow-wrap: anywhere;}
.heading .facts {color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; margin: 0 0 .8rem;}
.heading .task {margin: 0 0 .3rem;}
.columns {gap: 2.2rem !important;}
.caption {font-size: .85rem; font-weight: 600; color: var(--body-text-color-subdued); margin: 0 0 .5rem;
  white-space: nowrap;}
.headline {font-size: 1.5rem; line-height: 2rem; min-height: 2rem; margin-bottom: .7rem;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;}
.headline strong {font-weight: 680; margin-right: .3rem;}
.headline small {font-size: 1rem; color: var(--body-text-color-subdued); margin-left: .5rem;}
.headline.broken {font-size: 1rem; line-height: 1.5rem; font-weight: 500; color: #dc2626;}
.dark .headline.broken {color: #f87171;}
.bars {display: grid; grid-template-columns: minmax(1.2rem, max-content) 1fr 3.9rem; gap: .4rem .7rem;
  align-items: center; font-variant-numeric: tabular-nums; line-height: 1.25rem;}
.bars .name {max-width: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;}
.bars .track {height: .8rem; border-radius: 4px; background: var(--border-color-primary); overflow: hidden;}
.bars .fill {height: 100%; border-radius: 4px; background: var(--neutral-400); transition: width .12s;}
.bars .value {text-align: right; color: var(--body-text-color-subdued); font-size: .9rem;}
.bars .first {font-weight: 680; color: var(--body-text-color);}
.bars .first.fill {background: var(--color-accent);}
.saw img, .examples img, .drawn img {image-rendering: pixelated; display: block; margin: 0;}
.saw .frame {width: 168px; height: 168px; border-radius: 10px; overflow: hidden;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);}
.saw .frame img {width: 100%; height: 100%;}
.saw .note {font-size: .85rem; color: var(--body-text-color-subdued); margin: .45rem 0 0;}
.examples {margin-top: .6rem;}
.examples .caption, .drawn .caption {white-space: normal; overflow-wrap: anywhere;}
.examples .list {display: grid; grid-template-columns: repeat(auto-fill, minmax(82px, 1fr)); gap: .6rem;}
@media (max-width: 640px) {.examples .list {grid-template-columns: repeat(5, 1fr); gap: .5rem;}}
.examples button {padding: 4px; border-radius: 9px; border: 1px solid var(--border-color-primary); min-width: 0;
  background: var(--background-fill-primary); cursor: pointer; color: var(--body-text-color); max-width: 96px;}
.examples button:hover, .examples button:focus-visible {border-color: var(--color-accent);
  box-shadow: 0 0 0 1px var(--color-accent); outline: none;}
.examples img {width: 100%; aspect-ratio: 1; border-radius: 6px;}
.examples span {display: block; font-size: .85rem; line-height: 1.3rem; padding-top: 2px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap;}
.classes {flex-wrap: wrap !important; gap: .5rem !important;}
.classes button {flex: 0 1 auto !important; min-width: 3.2rem !important;}
.drawn {min-height: 14rem;}
.drawn .list {display: grid; grid-template-columns: repeat(6, 1fr); gap: .7rem; max-width: 780px;}
@media (max-width: 640px) {.drawn .list {grid-template-columns: repeat(3, 1fr);}}
.drawn img {width: 100%; aspect-ratio: 1; border-radius: 8px; border: 1px solid var(--border-color-primary);}
.form:has(> .seed) {max-width: 15rem; background: none;}
"""


def make_theme() -> Any:
    """Return the theme of the pages, in the fonts of the system."""
    import gradio as gr

    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    # of more contrast than the theme's own
    return theme.set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")
