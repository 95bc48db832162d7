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

  const links = new Map();
  for (const link of document.querySelectorAll("[data-bar] nav a")) {
    const heading = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (heading) links.set(heading.closest("section"), link);
  }
  const bar = document.querySelector("[data-bar] nav");
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const link = links.get(target);
        if (!isIntersecting) link.removeAttribute("aria-current");
        else {
          link.setAttribute("aria-current", "true");
          bar.scrollTo({ left: link.offsetLeft - bar.offsetLeft - bar.clientWidth / 3 });
        }
      }
    },
    { rootMargin: "-20% 0px -79% 0px" },
  );
  for (const section of links.keys()) watch.observe(section);
})();
