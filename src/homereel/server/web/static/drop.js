// Files that are dropped or chosen: sent at once, and named in the form by the id that the server gives them.

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault(); // else the browser would leave the page for the file
    const zone = event.target.closest?.("[data-drop]");
    document.querySelectorAll("[data-drop].over").forEach((each) => each.classList.remove("over"));
    if (zone && kind === "dragover") zone.classList.add("over");
    if (zone && kind === "drop" && event.dataTransfer.files.length) take(zone, event.dataTransfer.files[0]);
    if (!zone && kind === "drop") {
      const only = document.querySelector('[data-drop="recipe"]');
      if (only && event.dataTransfer.files.length) take(only, event.dataTransfer.files[0]);
    }
  });
}

document.addEventListener("change", (event) => {
  const zone = event.target.matches("[data-file]") && event.target.closest("[data-drop]");
  if (zone && event.target.files.length) take(zone, event.target.files[0]);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-clear]");
  if (button) clear(button.closest("[data-drop]"));
  const taken = event.target.closest("[data-drop-kept]");
  if (taken) {
    const list = taken.closest("ul");
    taken.closest("[data-kept]").remove();
    list.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
    if (!list.children.length) list.remove();
  }
});

function take(zone, file) {
  const failed = zone.querySelector("[data-error]");
  failed.hidden = true;
  const form = new FormData();
  form.append("file", file);
  const request = new XMLHttpRequest();
  request.open("POST", "/api/v1/uploads");
  request.upload.onprogress = ({ loaded, total }) => state(zone, `${file.name}: ${Math.floor((100 * loaded) / total)} %`);
  request.onerror = () => fail(zone, "the server does not answer; start homereel serve again, and drop the file once more");
  request.onload = () => {
    const told = read(request.responseText);
    if (request.status >= 400) return fail(zone, told?.error?.message ?? `the server answered ${request.status}`);
    return zone.dataset.drop === "recipe" ? recipe(zone, told.id) : keep(zone, file, told.id);
  };
  request.send(form);
}

function keep(zone, file, id) {
  const hidden = zone.querySelector("input[type=hidden]");
  hidden.value = id;
  state(zone, file.name);
  zone.querySelector("[data-clear]").hidden = false;
  zone.querySelector("img")?.remove();
  if (file.type.startsWith("image/")) {
    const picture = new Image();
    picture.alt = "";
    picture.src = URL.createObjectURL(file);
    picture.onload = () => URL.revokeObjectURL(picture.src);
    zone.append(picture);
  }
  hidden.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
}

async function recipe(zone, id) {
  try {
    const answer = await fetch("/studio/recipe", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ upload: id }),
    });
    if (!answer.ok) return fail(zone, read(await answer.text())?.error?.message ?? `the server answered ${answer.status}`);
    location.assign(answer.headers.get("hx-redirect"));
  } catch {
    fail(zone, "the server does not answer; start homereel serve again, and drop the file once more");
  }
  return null;
}

function clear(zone) {
  zone.querySelector("input[type=hidden]").value = "";
  zone.querySelector("[data-file]").value = "";
  zone.querySelector("img")?.remove();
  zone.querySelector("[data-clear]").hidden = true;
  state(zone, "Drop a file, or choose one");
  zone.dispatchEvent(new CustomEvent("filled", { bubbles: true }));
}

function fail(zone, message) {
  state(zone, "Drop a file, or choose one");
  zone.querySelector("[data-file]").value = "";
  const failed = zone.querySelector("[data-error]");
  failed.textContent = message.charAt(0).toUpperCase() + message.slice(1);
  failed.hidden = false;
}

function state(zone, text) {
  zone.querySelector("[data-state]").textContent = text;
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
