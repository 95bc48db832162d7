// which edges are drawn: arcs, their counts and the rows of the table show the same
(() => {
  "use strict";
  for (const view of document.querySelectorAll("[data-edges]")) {
    const arcs = new Map([...view.querySelectorAll("a[data-edge]")].map((arc) => [arc.dataset.edge, arc]));
    const rows = [...view.querySelectorAll("tr[data-edge]")]; // the strongest first, before any sorting
    const counts = [...view.querySelectorAll("[data-count]")];
    const picks = [...view.querySelectorAll("[data-pick]")];
    const shown = view.querySelector("[data-shown]");
    const drawing = view.querySelector("[data-arcs]");

    const show = () => {
      const asked = Object.fromEntries(
        picks.map((pick) => [pick.dataset.pick, pick.type === "checkbox" && !pick.checked ? "" : pick.value]),
      );
      const fits = rows.filter((row) =>
        ["meaning", "from", "into", "sure"].every((name) => !asked[name] || row.dataset[name] === asked[name]),
      );
      const drawn = new Set(fits.slice(0, Number(asked.most) || fits.length));
      for (const row of rows) {
        row.toggleAttribute("hidden", !drawn.has(row));
        arcs.get(row.dataset.edge)?.toggleAttribute("hidden", !drawn.has(row));
      }
      for (const count of counts) {
        const number = drawing.querySelectorAll(`a[data-bundle="${count.dataset.count}"]:not([hidden])`).length;
        count.textContent = `×${number}`;
        count.toggleAttribute("hidden", number < 2);
      }
      shown.textContent = `${drawn.size} of ${fits.length} edges are drawn.`;
      drawing.dispatchEvent(new Event("drawn"));
    };

    for (const pick of picks) pick.addEventListener("change", show);
    show();
  }
})();
