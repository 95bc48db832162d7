/* One question at a time; the picked line is checked, explained and counted. */
(() => {
  "use strict";

  const start = (root) => {
    const data = JSON.parse(root.querySelector("[data-answers]").textContent);
    const questions = [...root.querySelectorAll("[data-question]")];
    const lines = [...root.querySelectorAll("[data-line]")];
    const source = root.querySelector("[data-source]");
    const choices = [...root.querySelectorAll("[data-choice]")];
    const end = root.querySelector("[data-end]");
    const score = root.querySelector("[data-score]");
    const key = `which-line:${data.name}`;
    const untouched = () => data.answers.map(() => ({ tries: 0, right: false, shown: false, hinted: false }));
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
        if (chosen && scroll) bring(row);
      }
      if (!line) lines[0].tabIndex = 0;
      for (const choice of choices) {
        choice.checked = questions[at].contains(choice) && Number(choice.value) === line;
      }
    };

    /* A row of the source into the middle of its box. */
    const bring = (row) => {
      source.scrollTop = row.offsetTop - source.offsetTop - source.clientHeight / 2;
    };

    /* The lines that were cut are marked in the source, once the answer is out. */
    const markLines = (right) => {
      for (const row of lines) row.toggleAttribute("data-answer-line", right.includes(Number(row.dataset.line)));
    };

    const showLines = (number) => {
      const { lines: right } = answer(number);
      markLines(right);
      bring(lines[right[0] - 1]);
      source.scrollIntoView({ block: "nearest" });
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

    const hint = (number) => {
      const told = questions[number].querySelector("[data-hint]");
      told.textContent = records[number].hinted ? `Hint: ${answer(number).hint}` : "";
    };

    const count = () => {
      const found = records.filter((record) => record.right);
      const right = found.length;
      const first = found.filter((record) => record.tries === 1).length;
      const hinted = found.filter((record) => record.hinted).length;
      const shown = records.filter((record) => record.shown).length;
      end.textContent =
        right + shown < records.length
          ? ""
          : `All ${records.length} are answered: you found ${right} (${first} at the first try, ${hinted} with a hint) and had ${shown} shown.`;
      score.textContent = `Question ${at + 1} of ${questions.length}. Right so far: ${right}, ${first} at the first try.`;
    };

    const show = (number) => {
      at = (number + questions.length) % questions.length;
      questions.forEach((question, other) => question.classList.toggle("current", other === at));
      const { right, shown } = records[at];
      pick(0);
      if (right || shown) markLines(answer(at).lines);
      else markLines([]);
      count();
    };

    const recall = () => {
      records.forEach((record, number) => {
        questions[number].querySelector("[data-answer]").replaceChildren();
        verdict(number, "", "");
        hint(number);
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
        showLines(at);
      } else {
        verdict(at, `Not line ${picked}. Look again, take the hint, or have the answer shown.`, "wrong");
      }
      count();
    };

    const reveal = () => {
      if (!records[at].right) records[at].shown = true;
      keep();
      verdict(at, records[at].right ? "Right." : "Shown, so it does not count.", "");
      explain(at);
      showLines(at);
      count();
    };

    const ask = () => {
      if (!records[at].right && !records[at].shown) records[at].hinted = true;
      keep();
      hint(at);
    };

    const again = () => {
      records = untouched();
      keep();
      recall();
      show(0);
    };

    /* For who teaches the class: a file, which its reader can edit as any other. */
    const saveScore = () => {
      const link = document.createElement("a");
      const text = JSON.stringify({ quiz: data.name, questions: records });
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      link.download = "quiz.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    };

    for (const choice of choices) {
      choice.addEventListener("change", () => pick(Number(choice.value), true));
      choice.addEventListener("keydown", (event) => {
        if (event.key === "Enter") check();
      });
    }
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
    root.querySelector("[data-hint-asked]").addEventListener("click", ask);
    root.querySelector("[data-reveal]").addEventListener("click", reveal);
    root.querySelector("[data-again]").addEventListener("click", again);
    root.querySelector("[data-save-score]").addEventListener("click", saveScore);
    for (const button of root.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => show(at + Number(button.dataset.move)));
    }
    const first = Math.min(...choices.map((choice) => Number(choice.value)));
    source.scrollTop = lines[Math.max(0, first - 4)].offsetTop - source.offsetTop;
    recall();
    const open = records.findIndex((record) => !record.right && !record.shown);
    show(Math.max(0, open));
  };

  document.querySelectorAll("[data-quiz]").forEach(start);
})();
