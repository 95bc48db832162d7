// tables that sort, and what can be saved
(() => {
  "use strict";
  const exact = (cell) => cell.dataset.value ?? cell.textContent.trim();

  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const numeric = table.tHead.rows[0].cells[column].classList.contains("number");
    const key = (row) => {
      const text = exact(row.cells[column]);
      return numeric ? text === "" ? NaN : Number(text) : text;
    };
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return direction * x.localeCompare(y, "en", { numeric: true });
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // last, always
      return direction * (x - y);
    };
    body.append(...rows.sort(compare));
  };

  const save = (name, parts, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const csv = (table, saved) => {
    // also what separates cells in other countries' spreadsheets
    const quoted = (text) => (/[",;|\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    // a spreadsheet computes text that begins so; after an apostrophe it stays text
    const computed = /^[\s\0]*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/;
    const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?$/i;
    const inert = (text) => (computed.test(text) && !number.test(text) ? `'${text}` : text);
    const shown = () => [...table.tHead.rows, ...table.tBodies[0].rows].map((row) => [...row.cells].map(exact));
    const rows = saved ? JSON.parse(saved.textContent) : shown();
    const lines = rows.map((row) => row.map((text) => quoted(inert(text))).join(","));
    return `${lines.join("\r\n")}\r\n`;
  };

  for (const holder of document.querySelectorAll("[data-table]")) {
    const table = holder.querySelector("table");
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.dataset.value = button.textContent;
      button.addEventListener("click", () => {
        const ascending = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, ascending ? 1 : -1);
      });
    });
    const name = `${holder.dataset.table}.csv`;
    holder.querySelector("[data-save-csv]").addEventListener("click", () => {
      save(name, ["\ufeff", csv(table, holder.querySelector("[data-saved]"))], "text/csv");
    });
  }

  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    const link = figure.querySelector("[data-save-image]");
    link.href = figure.querySelector("img").src; // held once in the page, not twice
  }
})();
