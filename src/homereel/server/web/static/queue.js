// Waiting clips are put into another order by dragging; the arrows beside them do the same for the keyboard.
let dragged = null;

document.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.("[data-draggable]") ?? null;
  if (dragged) {
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", dragged.dataset.job);
    dragged.classList.add("dragged");
  }
});

document.addEventListener("dragover", (event) => {
  const over = event.target.closest?.("[data-draggable]");
  if (!dragged || !over) return;
  event.preventDefault();
  if (over === dragged) return;
  const box = over.getBoundingClientRect();
  over[event.clientY < box.top + box.height / 2 ? "before" : "after"](dragged);
});

document.addEventListener("drop", (event) => {
  if (dragged) event.preventDefault();
});

document.addEventListener("dragend", async () => {
  if (!dragged) return;
  const line = dragged;
  dragged = null;
  line.classList.remove("dragged");
  const neighbour = (side) => line[side]?.dataset.job;
  const where = neighbour("previousElementSibling")
    ? { after: neighbour("previousElementSibling") }
    : neighbour("nextElementSibling") && { before: neighbour("nextElementSibling") };
  if (where) {
    await fetch(`/api/v1/jobs/${line.dataset.job}/move`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(where),
    }).catch(() => null); // the list below tells how it stands
  }
  htmx.trigger(document.body, "jobs-changed");
});

// A list that is drawn anew under the hand would drop what it holds.
document.addEventListener("htmx:before:swap", (event) => {
  if (dragged) event.preventDefault();
});
