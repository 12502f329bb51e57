// The page of the API: what /openapi.json says, one box per address. All text is set as text, never as HTML.

const element = (name, text = "", properties = {}) => Object.assign(document.createElement(name), {textContent: text}, properties);

const example = (method, path) => {
  const address = `"${location.origin}${path}${path === "/api/gallery" && method !== "get" ? "?artist=NAME" : ""}"`;
  if (method === "post") return `curl -F files=@a.jpg ${address}`;
  return method === "delete" ? `curl -X DELETE ${address}` : `curl ${address}`;
};

const schema = await (await fetch("/openapi.json")).json();
for (const [path, methods] of Object.entries(schema.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const box = element("section", "", {className: "api"});
    const title = element("h2");
    title.append(element("code", `${method.toUpperCase()} ${path}`));
    box.append(title, element("p", about.description ?? ""));
    const list = element("ul");
    for (const each of about.parameters ?? []) {
      const {minimum, maximum, default: usual} = each.schema;
      const limits = minimum === undefined ? "" : `, ${minimum} to ${maximum}`;
      list.append(element("li", `${each.name}${each.required ? " (needed)" : ` (default ${usual}${limits})`}: ${each.description ?? each.schema.type}`));
    }
    if (list.children.length) box.append(list);
    box.append(element("pre", example(method, path)));
    const statuses = Object.entries(about.responses).filter(([status]) => status !== "200" && status !== "default");
    if (statuses.length) {
      const more = element("details");
      more.append(element("summary", "Errors"));
      const errors = element("ul");
      for (const [status, {description}] of statuses) errors.append(element("li", `${status}: ${description}`));
      more.append(errors);
      box.append(more);
    }
    document.getElementById("list").append(box);
  }
}
