// Sorts a table by the column of the clicked heading: numbers by value, text by name, empty values last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      if (a === b) return 0;
      if (a === "" || b === "") return a === "" ? 1 : -1;
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", {numeric: true}) : a - b;
      return down ? -order : order;
    };
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort((x, y) => compare(x[0], y[0]));
    body.append(...rows.map(pair => pair[1]));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
