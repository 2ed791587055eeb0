"use strict";
// Draws /openapi.json. Text is only ever set as text, never as markup.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function kindOf(schema) {
  if (!schema) return "";
  if (schema.enum) return schema.enum.join(" | ");
  const several = schema.anyOf || schema.oneOf;
  if (several) return several.map(kindOf).filter((kind) => kind !== "null").join(" | ");
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  return schema.format === "binary" ? "file" : schema.type || "any";
}

function row(name, schema, required, description) {
  const told = description || schema?.description || "";
  return element("tr", "", element("td", name + (required ? " *" : "")), element("td", kindOf(schema)), element("td", told));
}

function body(operation) {
  const content = operation.requestBody?.content;
  if (!content) return [];
  const schema = Object.values(content)[0].schema || {};
  const rows = Object.entries(schema.properties || {}).map(([name, inner]) =>
    row(name, inner, (schema.required || []).includes(name)));
  return [element("p", `Body: ${Object.keys(content).join(" or ")}`), element("table", "", ...rows)];
}

function drawn(path, method, operation) {
  const inside = element("div", "", element("p", operation.description || operation.summary || ""));
  inside.className = "inside";
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((one) => row(`${one.name} (${one.in})`, one.schema, one.required, one.description));
    inside.append(element("table", "", ...rows));
  }
  inside.append(...body(operation));
  const word = element("span", method.toUpperCase());
  word.className = "method";
  return element("details", "", element("summary", "", word, element("code", path)), inside);
}

async function draw() {
  const page = await (await fetch("/openapi.json")).json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(page.paths)) {
    for (const method of METHODS.filter((name) => name in methods)) {
      const tag = methods[method].tags?.[0] || "other";
      if (!groups.has(tag)) groups.set(tag, [element("h2", tag)]);
      groups.get(tag).push(drawn(path, method, methods[method]));
    }
  }
  document.getElementById("paths").replaceChildren(...[...groups.values()].flat());
}

draw();
