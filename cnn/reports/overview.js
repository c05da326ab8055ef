// An image under its score map: which class is laid over it, how opaque, how large, and which window is marked.

const LARGEST = 4; // times the size that fits the page

function showOverview(figure) {
  const stage = figure.querySelector(".stage");
  const view = figure.querySelector(".view");
  const bar = figure.querySelector(".bar");
  const chooser = figure.querySelector("select");
  const opacity = figure.querySelector("input[type=range]");
  const outlined = figure.querySelector(".outlined");
  const smaller = figure.querySelector(".out");
  const larger = figure.querySelector(".in");
  const frame = bar.parentElement;
  const fraction = bar.getBoundingClientRect().width / frame.clientWidth; // of the width of the image
  const [length, unit] = bar.textContent.split(" ");
  let zoom = 1;

  function choose() {
    const name = chooser.selectedOptions[0].textContent;
    const every = figure.querySelector(".every");
    const all = every !== null && chooser.selectedIndex === 0;
    for (const layer of figure.querySelectorAll(".layer")) layer.hidden = layer.dataset.layer !== chooser.value;
    for (const box of figure.querySelectorAll(".outlines rect")) {
      box.toggleAttribute("hidden", !(all || box.dataset.class === name));
    }
    if (every) every.hidden = !all;
    figure.querySelector(".single").hidden = all;
  }

  function fade() {
    for (const layer of figure.querySelectorAll(".layer")) layer.style.opacity = opacity.value / 100;
    figure.querySelector("output").textContent = `${opacity.value} %`;
  }

  // The image is a little narrower than its frame: by a border, and by a bar for scrolling where there is one. A scale
  // bar that is too long for the frame is halved, and its label with it.
  function measure() {
    const room = frame.clientWidth - 2 * bar.offsetLeft;
    const whole = fraction * stage.getBoundingClientRect().width;
    let parts = 1;
    while (whole > room * parts && parts < 2 ** 10) parts *= 2;
    bar.style.width = `${(100 * whole) / parts / frame.clientWidth}%`;
    const shown = (Number(length.replaceAll(",", "")) / parts).toLocaleString("en-US", { maximumSignificantDigits: 6 });
    bar.firstElementChild.textContent = `${shown} ${unit}`;
  }

  // The middle of the view stays where it is.
  function enlarge(factor) {
    const middle = [view.scrollLeft + view.clientWidth / 2, view.scrollTop + view.clientHeight / 2];
    const ratio = factor / zoom;
    zoom = factor;
    stage.style.width = `${100 * zoom}%`;
    measure();
    view.scrollLeft = middle[0] * ratio - view.clientWidth / 2;
    view.scrollTop = middle[1] * ratio - view.clientHeight / 2;
    bar.style.marginBottom = `${view.offsetHeight - view.clientHeight}px`; // above a bar for scrolling
    figure.classList.toggle("zoomed", zoom > 1);
    smaller.disabled = zoom === 1;
    larger.disabled = zoom === LARGEST;
  }

  chooser.addEventListener("change", choose);
  opacity.addEventListener("input", fade);
  if (outlined) {
    outlined.addEventListener("change", () => {
      figure.querySelector(".outlines").toggleAttribute("hidden", !outlined.checked);
    });
  }
  addEventListener("resize", measure);
  smaller.addEventListener("click", () => enlarge(zoom / 2));
  larger.addEventListener("click", () => enlarge(zoom * 2));
  choose();
  fade();
  measure();
}

function markWindow(list, button) {
  const figure = document.getElementById(list.dataset.overview);
  const mark = figure.querySelector(".mark");
  const pressed = button.getAttribute("aria-pressed") !== "true";
  for (const other of list.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-pressed", String(pressed));
  const [top, left, bottom, right] = pressed ? button.dataset.box.split(" ").map(Number) : [0, 0, 0, 0];
  mark.setAttribute("x", left);
  mark.setAttribute("y", top);
  mark.setAttribute("width", right - left);
  mark.setAttribute("height", bottom - top);
  if (!pressed) return;
  const view = figure.querySelector(".view");
  const whole = mark.ownerSVGElement.viewBox.baseVal;
  view.scrollLeft = ((left + right) / 2 / whole.width) * view.scrollWidth - view.clientWidth / 2;
  view.scrollTop = ((top + bottom) / 2 / whole.height) * view.scrollHeight - view.clientHeight / 2;
  view.scrollIntoView({ block: "nearest" });
}

for (const figure of document.querySelectorAll(".overview")) showOverview(figure);
for (const list of document.querySelectorAll(".windows")) {
  for (const button of list.querySelectorAll("button")) {
    button.addEventListener("click", () => markWindow(list, button));
  }
}
