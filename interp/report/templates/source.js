// a line of source opens on what is known of it: beside the code where there is room, else below it
(() => {
  "use strict";
  const view = document.querySelector("[data-source-view]")?.closest("main"); // of all sources
  if (!view) return;
  const room = matchMedia("(min-width: 76rem)");
  let open = null;

  const panelOf = (line) => line.nextElementSibling?.matches(".panel-row") && line.nextElementSibling;

  const place = () => {
    if (!open) return;
    const beside = open.line.closest("[data-file]").querySelector("[data-beside]");
    const columns = beside.parentElement;
    columns.classList.toggle("with-panel", room.matches);
    open.row.classList.toggle("open", !room.matches);
    beside.hidden = !room.matches;
    (room.matches ? beside : open.row.firstElementChild).append(open.panel);
    beside.scrollTop = 0;
  };

  // one line is lit: a target stays one when the address is replaced, so that tells nothing
  const light = (line) => {
    view.querySelector(".line.lit")?.classList.remove("lit");
    line?.classList.add("lit");
  };

  const close = () => {
    light(null);
    if (!open) return;
    const { line, row, panel } = open;
    const beside = line.closest("[data-file]").querySelector("[data-beside]");
    row.firstElementChild.append(panel);
    row.classList.remove("open");
    line.classList.remove("open");
    line.querySelector(".n a").setAttribute("aria-expanded", "false");
    beside.hidden = true;
    beside.parentElement.classList.remove("with-panel");
    open = null;
  };

  const show = (line) => {
    const row = panelOf(line);
    if (open?.line === line) return;
    close();
    light(line);
    if (!row) return;
    open = { line, row, panel: row.querySelector(".line-panel") };
    line.classList.add("open");
    line.querySelector(".n a").setAttribute("aria-expanded", "true");
    place();
  };

  const reveal = (line, smooth) => {
    const behavior = smooth && matchMedia("(prefers-reduced-motion: no-preference)").matches ? "smooth" : "instant";
    line.scrollIntoView({ block: "center", behavior });
  };

  const linked = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    const line = name && document.getElementById(name);
    if (!line || !view.contains(line) || !line.matches(".line")) return;
    show(line);
    reveal(line, false);
  };

  for (const link of view.querySelectorAll(".line .n a")) link.setAttribute("aria-expanded", "false");

  view.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) {
      const link = open?.line.querySelector(".n a");
      close();
      link?.focus({ preventScroll: true });
      return;
    }
    const line = event.target.closest(".line");
    if (!line || !panelOf(line) || String(getSelection())) return;
    event.preventDefault();
    if (open?.line === line && event.detail) return close();
    history.replaceState(null, "", `#${encodeURIComponent(line.id)}`);
    show(line);
    if (!event.detail) open.panel.focus({ preventScroll: room.matches }); // Enter, not the mouse
  });

  const step = (by) => {
    const lines = [...view.querySelectorAll(".line[data-effect]")];
    const focused = document.activeElement?.closest?.(".line") ?? open?.line;
    const all = [...view.querySelectorAll(".line")];
    const at = focused ? all.indexOf(focused) : by > 0 ? -1 : all.length;
    const next = by > 0
      ? lines.find((line) => all.indexOf(line) > at)
      : lines.findLast((line) => all.indexOf(line) < at);
    if (!next) return;
    next.querySelector(".n a").focus({ preventScroll: true });
    if (!open) light(null);
    else {
      show(next);
      history.replaceState(null, "", `#${encodeURIComponent(next.id)}`);
    }
    reveal(next, true);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, dialog, [role=listbox], [role=radiogroup]")) return;
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "Escape" && open) {
      const link = open.line.querySelector(".n a");
      close();
      link.focus({ preventScroll: true });
    }
  });

  const choose = (file, only) => {
    for (const button of file.querySelectorAll("[data-only]")) {
      button.setAttribute("aria-pressed", String(button.dataset.only === only));
    }
    file.classList.toggle("only-effect", only === "effect");
  };
  for (const file of view.querySelectorAll("[data-file]")) {
    for (const button of file.querySelectorAll("[data-only]")) {
      button.addEventListener("click", () => choose(file, button.dataset.only));
    }
    if (file.matches("[data-opens-on-effects]")) choose(file, "effect");
  }

  room.addEventListener("change", place);
  addEventListener("hashchange", linked);
  linked();
})();
