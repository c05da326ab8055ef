"use strict";

// Tables sort by the header that is pressed, and keep their leading columns in view.

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

const LARGEST_PART = 0.75; // of a table's box that columns which stay in view may take

// Which of the leading columns have room to stay: those in the middle give way first, the one that matters, the last
// of them, comes before the name.
function columnsThatStay(widths, room) {
  const stay = widths.map((_, column) => column);
  const total = () => stay.reduce((sum, column) => sum + widths[column], 0);
  while (stay.length > 2 && total() > room) stay.splice(-2, 1);
  while (stay.length && total() > room) stay.shift();
  return stay;
}

function placeLeads(box, table) {
  const leads = [...table.tHead.rows[0].cells].filter((cell) => cell.classList.contains("lead"));
  const widths = leads.map((cell) => cell.getBoundingClientRect().width);
  const stay = columnsThatStay(widths, LARGEST_PART * box.clientWidth);
  let left = 0;
  for (const [column, width] of widths.entries()) {
    const stays = stay.includes(column);
    table.style.setProperty(`--left-${column}`, stays ? `${left}px` : "auto");
    table.style.setProperty(`--layer-${column}`, Number(stays));
    if (stays) left += width;
  }
}

function showWhereItGoesOn(box) {
  const right = box.scrollWidth - box.clientWidth - box.scrollLeft;
  const below = box.scrollHeight - box.clientHeight - box.scrollTop;
  const frame = box.parentElement;
  frame.classList.toggle("scrolled", box.scrollLeft > 1);
  frame.classList.toggle("more-right", right > 1);
  frame.classList.toggle("more-below", below > 1);
}

function measure(box) {
  placeLeads(box, box.querySelector("table"));
  const sideways = box.scrollWidth > box.clientWidth;
  box.closest("figure").querySelector(".hint").hidden = !sideways;
  // A box that scrolls must be reached by the keyboard; one that does not should not be in its way.
  if (sideways || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  else box.removeAttribute("tabindex");
  showWhereItGoesOn(box);
}

const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => measure(target)));
for (const box of document.querySelectorAll(".scroll")) {
  resized.observe(box);
  box.addEventListener("scroll", () => showWhereItGoesOn(box), { passive: true });
}
