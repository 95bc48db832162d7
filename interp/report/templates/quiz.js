/* One question at a time; the picked line is checked, explained and counted. */
(() => {
  "use strict";

  const start = (root) => {
    const data = JSON.parse(root.querySelector("[data-answers]").textContent);
    const questions = [...root.querySelectorAll("[data-question]")];
    const lines = [...root.querySelectorAll("[data-line]")];
    const source = root.querySelector("[data-source]");
    const choice = root.querySelector("[data-choice]");
    const score = root.querySelector("[data-score]");
    const key = `which-line:${data.name}`;
    const untouched = () => data.answers.map(() => ({ tries: 0, right: false, shown: false }));
    let at = 0;
    let picked = 0;
    let records = kept();

    /* A page opened from disk may have no storage: then the score lasts as long as the page. */
    function kept() {
      try {
        const found = JSON.parse(localStorage.getItem(key));
        if (Array.isArray(found) && found.length === data.answers.length) return found;
      } catch {
        /* nothing was kept */
      }
      return untouched();
    }

    const keep = () => {
      try {
        localStorage.setItem(key, JSON.stringify(records));
      } catch {
        /* nothing can be kept */
      }
    };

    const answer = (number) => {
      const bytes = Uint8Array.from(atob(data.answers[number]), (byte) => byte.charCodeAt(0));
      return JSON.parse(new TextDecoder().decode(bytes));
    };

    const pick = (line, scroll) => {
      picked = line;
      for (const row of lines) {
        const chosen = Number(row.dataset.line) === line;
        row.setAttribute("aria-selected", String(chosen));
        row.tabIndex = chosen ? 0 : -1;
        if (chosen && scroll) source.scrollTop = row.offsetTop - source.offsetTop - source.clientHeight / 2;
      }
      if (!line) lines[0].tabIndex = 0;
      if (line && ![...choice.options].some((option) => option.value === String(line))) {
        choice.querySelector("[data-other]")?.remove();
        const code = lines[line - 1].querySelector("code").textContent.trim();
        const option = new Option(`${line}: ${code}`, String(line));
        option.dataset.other = "";
        choice.append(option);
      }
      choice.value = line ? String(line) : "";
    };

    const explain = (number) => {
      const { why, diff, lines: right } = answer(number);
      const pre = document.createElement("pre");
      pre.className = "diff";
      pre.tabIndex = 0;
      const code = document.createElement("code");
      for (const text of diff.replace(/\n$/, "").split("\n")) {
        const row = document.createElement("span");
        row.textContent = text;
        if (/^\+(?!\+\+ )/.test(text)) row.className = "diff-gi";
        if (/^-(?!-- )/.test(text)) row.className = "diff-gd";
        code.append(row, "\n");
      }
      pre.append(code);
      const said = document.createElement("p");
      said.textContent = `${right.length > 1 ? "Lines" : "Line"} ${right.join(", ")}. ${why}`;
      questions[number].querySelector("[data-answer]").replaceChildren(said, pre);
    };

    const verdict = (number, text, kind) => {
      const told = questions[number].querySelector("[data-verdict]");
      told.textContent = text;
      told.className = `quiz-verdict ${kind}`;
    };

    const count = () => {
      const right = records.filter((record) => record.right).length;
      const first = records.filter((record) => record.right && record.tries === 1).length;
      score.textContent = `Question ${at + 1} of ${questions.length}. Right so far: ${right}, ${first} at the first try.`;
    };

    const show = (number) => {
      at = (number + questions.length) % questions.length;
      questions.forEach((question, other) => question.classList.toggle("current", other === at));
      pick(0);
      count();
    };

    const recall = () => {
      records.forEach((record, number) => {
        questions[number].querySelector("[data-answer]").replaceChildren();
        verdict(number, "", "");
        if (record.right) verdict(number, "Right, as you found before.", "right");
        if (record.right || record.shown) explain(number);
      });
    };

    const check = () => {
      const record = records[at];
      if (!picked) {
        verdict(at, "Pick a line first.", "");
        return;
      }
      const { lines: right } = answer(at);
      const hit = right.includes(picked);
      if (!record.right && !record.shown) {
        record.tries += 1;
        record.right = hit;
        keep();
      }
      if (hit) {
        verdict(at, `Right: line ${picked}.`, "right");
        explain(at);
      } else {
        verdict(at, `Not line ${picked}. Look again, or have the answer shown.`, "wrong");
      }
      count();
    };

    const reveal = () => {
      if (!records[at].right) records[at].shown = true;
      keep();
      verdict(at, records[at].right ? "Right." : "Shown, so it does not count.", "");
      explain(at);
      count();
    };

    const again = () => {
      records = untouched();
      keep();
      recall();
      show(0);
    };

    choice.addEventListener("change", () => pick(Number(choice.value), true));
    source.addEventListener("click", (event) => {
      const row = event.target.closest("[data-line]");
      if (row) pick(Number(row.dataset.line));
    });
    source.addEventListener("keydown", (event) => {
      const row = lines.indexOf(event.target.closest("[data-line]"));
      const to = { ArrowDown: row + 1, ArrowUp: row - 1, Home: 0, End: lines.length - 1, PageDown: row + 20, PageUp: row - 20 }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        if (picked === row + 1) check();
        else pick(row + 1);
      } else if (to !== undefined) {
        event.preventDefault();
        const next = lines[Math.min(lines.length - 1, Math.max(0, to))];
        pick(Number(next.dataset.line));
        next.focus();
      }
    });
    root.querySelector("[data-check]").addEventListener("click", check);
    root.querySelector("[data-reveal]").addEventListener("click", reveal);
    root.querySelector("[data-again]").addEventListener("click", again);
    for (const button of root.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => show(at + Number(button.dataset.move)));
    }
    const first = [...choice.options].map((option) => Number(option.value)).find((line) => line > 0);
    source.scrollTop = lines[Math.max(0, first - 4)].offsetTop - source.offsetTop;
    recall();
    const open = records.findIndex((record) => !record.right && !record.shown);
    show(Math.max(0, open));
  };

  document.querySelectorAll("[data-quiz]").forEach(start);
})();
