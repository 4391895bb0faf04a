"use strict";
// Whatever comes from outside (names of files, texts of antibodies) is set as text, never as markup.
const AT_ONCE = 8;
const input = document.getElementById("files");
const drop = document.getElementById("drop");
const status_ = document.getElementById("status");
const list = document.getElementById("verdicts");
const shape = document.getElementById("verdict");
const token = document.getElementById("token");
const WORDS = { accepted: "Accepted", rejected: "Rejected", review: "For a person", failed: "Cannot be read" };

function tell(text, wrong = false) {
  status_.textContent = text;
  status_.classList.toggle("wrong", wrong);
}

function show(file, verdict) {
  const item = shape.content.cloneNode(true).querySelector("li");
  const set = (name, text) => {
    const part = item.querySelector("." + name);
    part.textContent = text;
    part.hidden = !text;
  };
  if (verdict.outcome in WORDS) item.classList.add(verdict.outcome);
  const image = item.querySelector("img");
  image.onload = () => URL.revokeObjectURL(image.src);
  image.onerror = () => {
    image.onload();
    image.classList.add("broken");
  };
  image.src = URL.createObjectURL(file);
  set("name", file.name);
  set("outcome", WORDS[verdict.outcome] ?? verdict.outcome);
  const label = verdict.label && (verdict.outcome === "accepted" ? verdict.label : "nearest: " + verdict.label);
  set("label", label);
  set("reason", verdict.reason);
  const share = verdict.typicality;
  item.querySelector(".typicality").hidden = share === null;
  if (share !== null) {
    item.querySelector(".track i").style.width = 100 * share + "%";
    item.querySelector(".typicality small").textContent =
      "more typical than " + (100 * share).toFixed(1) + " % of known images";
  }
  set("nearest", verdict.nearest.map((one) => one.class + " " + one.similarity.toFixed(3)).join(" · "));
  list.prepend(item);
}

async function ask(files) {
  const body = new FormData();
  for (const file of files) body.append("image", file, file.name);
  const headers = token ? { Authorization: "Bearer " + token.value } : {};
  const answer = await fetch("judge", { method: "POST", body, headers });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  said.verdicts.forEach((verdict, i) => show(files[i], verdict));
}

async function judge(files) {
  if (!files.length) return;
  if (token && !token.reportValidity()) return;
  input.disabled = true;
  try {
    for (let i = 0; i < files.length; i += AT_ONCE) {
      tell(`Judging ${i + 1} to ${Math.min(i + AT_ONCE, files.length)} of ${files.length} …`);
      await ask(files.slice(i, i + AT_ONCE));
    }
    tell(`${files.length} judged`);
  } catch (error) {
    tell(`Not judged: ${error.message}`, true);
  } finally {
    input.disabled = false;
    input.value = "";
  }
}

input.addEventListener("change", () => judge([...input.files]));
document.getElementById("form").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") judge([...event.dataTransfer.files]);
  });
}
