// Sortable tables: a click on a heading sorts by that column, a second click turns the order round. Without scripts
// the tables stay as they were rendered.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!("v" in cell.dataset)) return cell.textContent.trim().toLowerCase();
    return cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b);
    return a - b;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first ?? "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => {
        const a = value(one, column);
        const b = value(two, column);
        // What was not measured stays at the end in either order.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return sign * compare(a, b);
      });
      table.tBodies[0].append(...rows);
    });
  });
}

// Tables with groups of methods: a group folds, and the filter above the results leaves the methods whose name contains
// what was typed.
const filter = document.querySelector(".filter");
for (const table of filter ? document.querySelectorAll("table.grouped") : []) {
  const lines = [...table.querySelectorAll("tbody tr:not(.group)")];
  const folded = new Set();
  const show = () => {
    const wanted = filter.querySelector("input").value.trim().toLowerCase();
    for (const line of lines) {
      // What is looked for is shown, folded or not.
      const matches = line.cells[0].textContent.toLowerCase().includes(wanted);
      line.hidden = wanted ? !matches : folded.has(line.parentElement);
    }
    if (!table.matches(".seeds")) {
      const found = lines.filter((line) => !line.hidden).length;
      filter.querySelector("[role=status]").textContent = wanted ? `${found} of ${lines.length} lines` : "";
    }
  };
  for (const body of table.tBodies) {
    const title = body.querySelector(".group span");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    button.setAttribute("aria-expanded", "true");
    button.addEventListener("click", () => {
      const open = folded.delete(body);
      if (!open) folded.add(body);
      button.setAttribute("aria-expanded", String(open));
      show();
    });
    title.append(button);
  }
  filter.addEventListener("input", show);
  if (lines.length >= 10) filter.hidden = false;
}
