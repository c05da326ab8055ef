// Pictures open large, in a dialog of the browser's own: Escape closes it, and the focus returns to the picture.

function openLarge(button) {
  const small = button.querySelector("img");
  const dialog = document.createElement("dialog");
  dialog.className = "large";
  dialog.setAttribute("aria-label", small.alt);
  const bar = document.createElement("div");
  bar.className = "bar";
  const caption = document.createElement("p");
  caption.textContent = button.closest("figure").querySelector("figcaption").textContent;
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  bar.append(caption, close);
  const image = document.createElement("img");
  image.src = small.src;
  image.alt = small.alt;
  dialog.append(bar, image);
  dialog.addEventListener("close", () => dialog.remove());
  // A press beside the picture closes it too: the dialog itself is hit by what lies outside of its content.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  close.addEventListener("click", () => dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => openLarge(button));
}
