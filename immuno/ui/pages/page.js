"use strict";
// A page of what runs asks for itself again, and shows what is new: not under the keyboard of somebody who is in it.
const seconds = Number(document.querySelector("main").dataset.live);
const again = seconds > 0 && setInterval(async () => {
  const old = document.querySelector("main");
  if (document.hidden || (old.contains(document.activeElement) && document.activeElement !== old)) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (fresh && fresh.innerHTML !== old.innerHTML) old.replaceWith(fresh);
    if (!fresh || !Number(fresh.dataset.live)) clearInterval(again);
  } catch { /* the server has gone: the page stays as it is */ }
}, 1000 * seconds);
// What a form does not ask for does not stand in the address.
for (const form of document.querySelectorAll("form"))
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
  });
