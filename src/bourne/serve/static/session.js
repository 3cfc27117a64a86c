// Who is signed in: the form that asks for a token, and the button that ends it. The cookie is out of reach for scripts.

import { Problem, ask } from "./api.js";
import { setText } from "./dom.js";

/** `name` is that of the token, null without one; `role` what it may do. */
export const session = { name: null, role: "admin" };

export const isAdmin = () => session.role === "admin";

/** Whether runs of jobs may be begun and stopped. */
export const mayWrite = () => session.role !== "reader";

/** Prepare the form; `onChange` is called after somebody has signed in. */
export function prepareSession(onChange) {
  const dialog = document.getElementById("sign-in");
  const form = dialog.querySelector("form");
  const token = document.getElementById("token");
  const error = document.getElementById("sign-in-error");
  const signOut = document.getElementById("sign-out");

  async function learn() {
    try {
      Object.assign(session, await ask("session"));
    } catch (problem) {
      // A server that does not say who asks may still refuse, in words.
      if (!(problem instanceof Problem)) return;
    }
    signOut.hidden = session.name === null;
    signOut.title = session.name === null ? "" : `Signed in as ${session.name} (${session.role})`;
  }

  const open = () => {
    if (!dialog.open) dialog.showModal();
  };
  document.addEventListener("bourne:sign-in", () => {
    signOut.hidden = true;
    open();
  });
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // there is nothing to see behind it
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    try {
      await ask("session", { method: "POST", body: { token: token.value } });
      token.value = "";
      dialog.close();
      await learn();
      onChange();
    } catch (problem) {
      setText(error, problem.status === 401 ? "This token is not known, or was revoked." : problem.message);
      error.hidden = false;
      token.select();
    }
  });
  signOut.addEventListener("click", async () => {
    try {
      await ask("session", { method: "DELETE" });
    } catch {
      return; // still signed in, and the banner says why
    }
    location.reload(); // so that nothing of what was seen is left
  });
  return learn();
}
