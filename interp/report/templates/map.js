// a box of the map opens beside it; the lines of the source know their boxes
(() => {
  "use strict";
  for (const view of document.querySelectorAll("[data-map]")) {
    const links = [...view.querySelectorAll("a[data-box]")];
    const boxes = [...view.querySelectorAll(".map-box")];

    const choose = (number) => {
      boxes.forEach((box, place) => box.classList.toggle("chosen", place === number));
      for (const link of links) {
        if (Number(link.dataset.box) === number) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    };

    view.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-box]");
      if (!link) return;
      event.preventDefault();
      const number = Number(link.dataset.box);
      choose(number);
      history.replaceState(null, "", link.getAttribute("href"));
      boxes[number].focus({ preventScroll: matchMedia("(min-width: 48rem)").matches && event.detail > 0 });
    });

    const linked = () => {
      const number = boxes.findIndex((box) => `#${box.id}` === location.hash);
      if (number < 0) return;
      choose(number);
      links.find((link) => Number(link.dataset.box) === number).scrollIntoView({ block: "center" });
    };

    for (const box of boxes) {
      const line = box.dataset.boxLine && document.getElementById(box.dataset.boxLine);
      const panel = line && line.nextElementSibling?.querySelector(".line-panel");
      if (!panel) continue;
      let places = panel.querySelector("[data-in-map]");
      if (!places) {
        places = document.createElement("p");
        places.dataset.inMap = "";
        places.append("In the map: ");
        panel.append(places);
      } else places.append(", ");
      const link = document.createElement("a");
      link.href = `#${box.id}`;
      link.textContent = box.dataset.boxTitle;
      places.append(link);
    }

    choose(0);
    addEventListener("hashchange", linked);
    linked();
  }
})();
