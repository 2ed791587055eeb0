// Clips that are marked in the library, in the order in which they were: two to be compared, or any to become a film.
// The form holds them, so that a mark outlives a search that does not show its clip.
const form = document.querySelector("[data-marked]");

function marked() {
  return [...form.querySelectorAll("input[name=clip]")].map((field) => field.value);
}

function mark(id, wanted) {
  form.querySelector(`input[value="${CSS.escape(id)}"]`)?.remove();
  if (!wanted) return;
  const field = Object.assign(document.createElement("input"), { type: "hidden", name: "clip", value: id });
  form.append(field);
}

function show() {
  const ids = marked();
  document.querySelectorAll("[data-mark]").forEach((box) => {
    const place = ids.indexOf(box.value);
    box.checked = place >= 0;
    const told = box.parentElement.querySelector("[data-mark-told]");
    const text = place >= 0 ? `Marked ${place + 1}` : "Mark";
    if (told.textContent !== text) told.textContent = text;
  });
  form.querySelector("[data-compare]").disabled = ids.length !== 2;
  form.querySelector("[data-join]").disabled = ids.length < 2;
  form.querySelector("[data-unmark]").hidden = ids.length === 0;
  const told = form.querySelector("[data-marked-told]");
  told.textContent = ids.length ? `${ids.length} marked` : "mark two clips or more, in the order of the film";
}

if (form) {
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-mark]")) return;
    mark(event.target.value, event.target.checked);
    show();
  });
  form.querySelector("[data-join]").addEventListener("click", () => htmx.trigger(form, "film"));
  form.querySelector("[data-unmark]").addEventListener("click", () => {
    marked().forEach((id) => mark(id, false));
    show();
  });
  document.addEventListener("htmx:after:swap", show);
  addEventListener("pageshow", show); // a browser that goes back keeps the fields, and forgets what they enable
}
