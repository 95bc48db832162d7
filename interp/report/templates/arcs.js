// arcs: one can be reached by Tab, the others from there by arrow keys; what each says is shown
(() => {
  "use strict";
  for (const drawing of document.querySelectorAll("[data-arcs]")) {
    const around = drawing.closest("[data-told-of]");
    const told = around.querySelector("[data-told]");
    const seen = () => [...drawing.querySelectorAll("a[data-edge]:not([hidden])")];
    const reach = (chosen) => {
      for (const arc of drawing.querySelectorAll("a[data-edge]")) {
        arc.setAttribute("tabindex", arc === chosen ? "0" : "-1");
      }
    };
    const begin = () => {
      told.textContent = "";
      reach(seen()[0]);
    };

    const tell = (event) => {
      const arc = event.target.closest("a[data-edge]"); // in SVG, what listens for focus takes it
      if (arc) told.textContent = arc.getAttribute("aria-label");
    };
    around.addEventListener("mouseover", tell);
    around.addEventListener("focusin", tell);
    drawing.addEventListener("keydown", (event) => {
      const among = seen();
      const at = among.indexOf(event.target.closest("a[data-edge]"));
      const to = {
        ArrowDown: at + 1,
        ArrowRight: at + 1,
        ArrowUp: at - 1,
        ArrowLeft: at - 1,
        Home: 0,
        End: among.length - 1,
      }[event.key];
      if (at < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (!among[to]) return;
      reach(among[to]);
      among[to].focus();
    });
    drawing.addEventListener("drawn", begin);
    begin();
  }
})();
