"use strict";

// Shows /openapi.json. A browser cannot send a key by itself, so that where the server asks for one, the page does; the key is
// kept in this page only, and goes with the requests that are tried from it.

async function load(key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const answer = await fetch("/openapi.json", { headers });
  const found = await answer.json();
  if (answer.ok) {
    show(found, key);
  } else {
    ask(found.detail);
  }
}

function show(spec, key) {
  document.getElementById("ask").hidden = true;
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // or every document would be shown to a server elsewhere
    onComplete: () => key && ui.preauthorizeApiKey("bearer", key),
  });
}

function ask(why) {
  document.getElementById("why").textContent = why;
  document.getElementById("ask").hidden = false;
}

function start(key) {
  load(key).catch((error) => ask(`the document did not come: ${error.message}`));
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  start(document.getElementById("key").value);
});
start();
