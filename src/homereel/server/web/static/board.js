// Keys on a board of drafts: arrows walk, P picks, X discards, Enter opens, R refines what is picked.

document.addEventListener("keydown", (event) => {
  const board = document.querySelector("[data-board]");
  if (!board || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const key = event.key.toLowerCase();
  const cards = [...board.querySelectorAll(".card")];
  const here = event.target.closest?.(".card");
  if (key.startsWith("arrow")) return walk(event, cards, here);
  if (key === "r") return press(event, document.querySelector('#picked [data-key="r"]'));
  if (!here) return undefined;
  if (key === "enter" && event.target === here) return press(event, here.querySelector("a.title"));
  if (key === "p" || key === "x") return press(event, here.querySelector(`[data-key="${key}"]`));
  return undefined;
});

function press(event, button) {
  if (!button) return;
  event.preventDefault();
  button.click();
}

function walk(event, cards, here) {
  const step = { arrowleft: -1, arrowright: 1, arrowup: -columns(cards), arrowdown: columns(cards) }[event.key.toLowerCase()];
  const to = here ? cards[cards.indexOf(here) + step] : cards[0];
  if (!to) return;
  event.preventDefault();
  to.focus();
}

function columns(cards) {
  const top = cards[0]?.offsetTop;
  return Math.max(1, cards.filter((card) => card.offsetTop === top).length);
}
