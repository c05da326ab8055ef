"use strict";

// A cell sorts by its data-value where it has one, else by its text; an empty key is a missing value.
function keyOf(row, column, isNumber) {
  const cell = row.cells[column];
  const key = (cell.dataset.value ?? cell.textContent).trim();
  if (key === "") return null;
  return isNumber ? Number(key) : key;
}

function sortBy(table, column) {
  const headers = [...table.tHead.rows[0].cells];
  const header = headers[column];
  const descending = header.getAttribute("aria-sort") === "ascending";
  const isNumber = header.classList.contains("number");
  const words = new Intl.Collator(undefined, { numeric: true });
  const compare = isNumber ? (a, b) => (a < b ? -1 : Number(a > b)) : words.compare;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, key: keyOf(row, column, isNumber) }));
  // Array.sort is stable, and missing values are last in both directions.
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    return descending ? compare(b.key, a.key) : compare(a.key, b.key);
  });
  body.append(...rows.map(({ row }) => row));
  for (const other of headers) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table")) {
  for (const [column, header] of [...table.tHead.rows[0].cells].entries()) {
    header.querySelector("button").addEventListener("click", () => sortBy(table, column));
  }
}

// A box that scrolls must be reached by the keyboard; one that does not should not be in its way.
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight;
    if (scrolls) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of document.querySelectorAll(".scroll")) resized.observe(box);
