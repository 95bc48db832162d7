/* All heads small, one large; the text shaded by what the chosen query looks at. */
(() => {
  "use strict";

  const start = (root) => {
    const data = JSON.parse(root.querySelector("[data-weights]").textContent);
    const packed = Uint8Array.from(atob(data.weights), (byte) => byte.charCodeAt(0));
    const length = data.tokens.length;
    const each = (length * (length + 1)) / 2;
    const heads = [...root.querySelectorAll("[data-head]")];
    const characters = [...root.querySelectorAll("[data-position]")];
    const canvas = root.querySelector("[data-pattern]");
    const row = root.querySelector("[data-row]");
    const mark = root.querySelector("[data-cell]");
    const told = root.querySelector("[data-told]");
    const hover = root.querySelector("[data-hover]");
    let head = data.chosen;
    let query = length - 1;
    let key = null; // the one pointed at

    const weight = (from, to) =>
      to > from ? 0 : packed[head * each + (from * (from + 1)) / 2 + to] / data.levels;
    const called = (position) => `"${data.tokens[position]}" (position ${position})`;

    const draw = () => {
      canvas.width = canvas.height = length;
      const [red, green, blue] = getComputedStyle(root).color.match(/\d+/g).map(Number);
      const picture = new ImageData(length, length);
      for (let from = 0; from < length; from++) {
        for (let to = 0; to <= from; to++) {
          picture.data.set([red, green, blue, Math.sqrt(weight(from, to)) * 255], 4 * (from * length + to));
        }
      }
      canvas.getContext("2d", { willReadFrequently: true }).putImageData(picture, 0, 0);
    };

    /* One label for each token along an axis; where they would meet, only some of them are shown. */
    const labelled = (axis, side) =>
      data.labels.map((label, position) => {
        const span = document.createElement("span");
        span.textContent = label;
        span.title = data.tokens[position];
        span.style[side] = `${(100 * (position + 0.5)) / length}%`;
        axis.append(span);
        return span;
      });
    const axes = [root.querySelector("[data-queries]"), root.querySelector("[data-keys-looked-at]")];
    const letters = Number(root.style.getPropertyValue("--letters"));
    const wide = letters > 2;
    axes[1].classList.toggle("turned", wide);
    const labels = [labelled(axes[0], "top"), labelled(axes[1], "left")];

    const thin = () => {
      const size = canvas.getBoundingClientRect().width;
      if (!size) return;
      const em = parseFloat(getComputedStyle(axes[0]).fontSize);
      const every = Math.ceil((1.15 * em * length) / size);
      const across = wide ? every : Math.ceil(((0.6 * letters + 0.4) * em * length) / size);
      [[query, every], [key, across]].forEach(([chosen, apart], axis) => {
        labels[axis].forEach((label, position) => {
          const near = chosen !== null && Math.abs(position - chosen) < apart;
          label.hidden = position !== chosen && (near || position % apart !== 0);
          label.classList.toggle("chosen", position === chosen);
        });
      });
    };

    const show = () => {
      heads.forEach((button, number) => {
        button.setAttribute("aria-checked", String(number === head));
        button.tabIndex = number === head ? 0 : -1;
      });
      root.querySelector("[data-name]").textContent = `Head ${data.heads[head]}`;
      row.style.top = `${(100 * query) / length}%`;
      row.style.height = `${100 / length}%`;
      characters.forEach((character, position) => {
        character.setAttribute("aria-selected", String(position === query));
        character.tabIndex = position === query ? 0 : -1;
        character.classList.toggle("later", position > query);
        character.style.setProperty("--weight", weight(query, position).toFixed(3));
      });
      const most = characters
        .map((_, position) => position)
        .filter((position) => weight(query, position) >= 0.01)
        .sort((one, other) => weight(query, other) - weight(query, one))
        .slice(0, 5)
        .map((position) => `${called(position)} ${weight(query, position).toFixed(2)}`);
      told.textContent = `From ${called(query)} it looks at ${most.join(", ") || "nothing in particular"}.`;
      hover.textContent = "";
      key = null;
      mark.hidden = true;
      thin();
    };

    const point = (from, to) => {
      key = to;
      mark.hidden = false;
      Object.assign(mark.style, {
        top: `${(100 * from) / length}%`,
        left: `${(100 * to) / length}%`,
        width: `${100 / length}%`,
        height: `${100 / length}%`,
      });
      thin();
      hover.textContent =
        to > from
          ? `${called(to)} comes later: no attention.`
          : `From ${called(from)} to ${called(to)}: ${weight(from, to).toFixed(2)}`;
    };

    const choose = (number) => {
      head = number;
      draw();
      show();
    };

    const ask = (position) => {
      query = position;
      show();
    };

    /* Arrow keys within a set of which one can be focused. */
    const arrows = (items, columns, chosen) => (event) => {
      const at = items.indexOf(event.target.closest("[data-head], [data-position]"));
      const to = {
        ArrowRight: at + 1,
        ArrowLeft: at - 1,
        ArrowDown: at + columns,
        ArrowUp: at - columns,
        Home: 0,
        End: items.length - 1,
      }[event.key];
      if (at < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (items[to]) {
        chosen(to);
        items[to].focus();
      }
    };

    const columns = root.querySelector(".attention-layer").children.length;
    const list = root.querySelector("[data-text]");
    const group = root.querySelector(".attention-heads");
    group.addEventListener("keydown", arrows(heads, columns, choose));
    list.addEventListener("keydown", arrows(characters, 1, ask));
    heads.forEach((button, number) => button.addEventListener("click", () => choose(number)));
    characters.forEach((character, position) => {
      character.addEventListener("click", () => ask(position));
      character.addEventListener("mouseenter", () => point(query, position));
    });
    const cell = (event) => {
      const box = canvas.getBoundingClientRect();
      const at = (offset, size) => Math.min(length - 1, Math.max(0, Math.floor((offset / size) * length)));
      return [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
    };
    canvas.addEventListener("mousemove", (event) => point(...cell(event)));
    canvas.addEventListener("click", (event) => ask(cell(event)[0]));
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const within = (position) => Math.min(length - 1, Math.max(0, position));
      const from = within(query + by[0]);
      const to = within((key ?? from) + by[1]);
      if (from !== query) ask(from);
      point(from, to);
    });
    new ResizeObserver(thin).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    document.addEventListener("theme", draw);
    draw();
    show();
  };

  document.querySelectorAll("[data-attention]").forEach(start);
})();
