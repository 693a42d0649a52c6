// Plots read their colours from the style sheet once; a change of a property has them read again.
const COLOURS = ["axis_line_color", "axis_label_text_color", "major_label_text_color", "grid_line_color"];
const plots = () => [...Bokeh.index].filter(view => view.model.type === "Figure");
function recolour() {
  for (const view of plots()) {
    for (const part of [...view.model.below, ...view.model.left, ...view.model.center]) {
      for (const name of COLOURS) part.properties[name]?.change.emit();
    }
    view.request_repaint();
  }
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

// On paper each plot is a canvas that fits its column, in the light colours.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("light");
  recolour();
  for (const view of plots()) view.el.closest(".canvas").append(view.export("png").canvas);
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("light");
  recolour();
  for (const canvas of document.querySelectorAll(".canvas > canvas")) canvas.remove();
});

// A tap points as a mouse does: its values stay until the next tap. Browsers leave the scroll position out of `pageX`
// and `pageY` of events that a script makes, and bokeh reads these.
let tapped = null;
function point(type, click) {
  const event = new PointerEvent(type, { isPrimary: true, bubbles: true, composed: true });
  for (const name of ["pageX", "pageY"]) Object.defineProperty(event, name, { value: click[name] });
  tapped?.dispatchEvent(event);
}
addEventListener("click", click => {
  if (click.pointerType !== "touch") return;
  point("pointerout", click);
  tapped = click.composedPath().find(element => element.classList?.contains("bk-events"));
  point("pointermove", click);
});
