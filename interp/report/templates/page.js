// theme, keys, and where in the page the reader is
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");

  const kept = (value) => {
    try {
      if (value) localStorage.setItem("report-theme", value);
      return localStorage.getItem("report-theme");
    } catch {
      return null; // no storage is no theme kept, nothing else
    }
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.querySelector("[data-theme-toggle]");
  const show = (theme) => {
    root.dataset.theme = theme;
    toggle.setAttribute("aria-pressed", String(theme === "dark"));
    document.dispatchEvent(new CustomEvent("theme"));
  };
  const turn = () => {
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    kept(theme);
    show(theme);
  };
  const chosen = () => kept() || (system.matches ? "dark" : "light");
  show(chosen());
  toggle.addEventListener("click", turn);
  system.addEventListener("change", () => show(chosen()));

  const keys = document.querySelector("[data-keys]");
  document.querySelector("[data-keys-open]").addEventListener("click", () => keys.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
    if (event.target.closest("input, select, textarea, [role=listbox], [role=radiogroup]")) return;
    if (event.key === "?") keys.showModal();
    if (event.key === "d") turn();
  });

  // in a notebook's frame, a link within the page would load the notebook into the frame
  if (location.protocol === "about:") {
    document.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (!link || event.defaultPrevented) return;
      event.preventDefault();
      document.getElementById(decodeURIComponent(link.hash.slice(1)))?.scrollIntoView();
    });
  }

  // what is wider than its box fades out where there is more of it
  const fade = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    const [left, right] = [box.scrollLeft > 1, box.scrollLeft < hidden - 1];
    if (left || right) box.dataset.more = left && right ? "both" : left ? "left" : "right";
    else delete box.dataset.more;
  };
  const sized = new ResizeObserver((entries) => entries.forEach(({ target }) => fade(target)));
  for (const box of document.querySelectorAll(".wide")) {
    sized.observe(box);
    box.addEventListener("scroll", () => fade(box), { passive: true });
  }

  const menu = document.querySelector("[data-menu]");
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-menu]") || event.target.closest("[data-menu] a")) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopImmediatePropagation(); // it closes nothing else
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  const links = new Map();
  for (const link of document.querySelectorAll("[data-bar] nav a")) {
    const section = document.getElementById(decodeURIComponent(link.hash.slice(1)))?.closest("section");
    if (section) links.set(section, [...(links.get(section) ?? []), link]);
  }
  const here = document.querySelector("[data-here]");
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        for (const link of links.get(target)) {
          if (isIntersecting) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
      here.textContent = document.querySelector("[data-menu] [aria-current]")?.textContent ?? "";
    },
    { rootMargin: "-20% 0px -79% 0px" },
  );
  for (const section of links.keys()) watch.observe(section);
})();
