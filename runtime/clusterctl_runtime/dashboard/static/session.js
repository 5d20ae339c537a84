// Who we are to the head: a one-time ticket from the address is exchanged for a token that this tab keeps until it closes.

const KEY = "clusterctl.token";

export function token() {
  return sessionStorage.getItem(KEY);
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

/** Takes the ticket out of the address bar and history before anything else, and exchanges it.
    Resolves to "" when this tab may go on, else to the sentence that says why not. */
export async function admit() {
  const match = /^#ticket=([^&]+)/.exec(location.hash);
  if (!match) return token() ? "" : "This page needs a ticket.";
  history.replaceState(null, "", location.pathname);
  forget(); // a new ticket is meant to be used, whoever this tab was before
  let response = null;
  try {
    response = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ticket: decodeURIComponent(match[1]) }),
    });
  } catch {
    // said below
  }
  if (!response || response.status >= 500) return "The head did not answer while the ticket was being exchanged.";
  if (!response.ok) return "This ticket was used before or is older than a minute.";
  sessionStorage.setItem(KEY, (await response.json()).token);
  return "";
}
