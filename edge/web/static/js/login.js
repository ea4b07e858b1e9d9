// The token from the address (#token=...) or the form becomes a cookie that scripts cannot read.

const form = document.querySelector("form");
const field = form.elements.token;
const problem = document.querySelector("#problem");

async function logIn(token) {
  problem.textContent = "";
  try {
    const response = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (response.ok) return location.reload();
    const text = (await response.text()).trim();
    problem.textContent = `${text[0].toUpperCase()}${text.slice(1)}.`;
  } catch {
    problem.textContent = "The page's server does not answer.";
  }
  field.select();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  logIn(field.value);
});

const token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) {
  // It is to stay neither in the history nor in a picture of the screen.
  history.replaceState(null, "", location.pathname);
  logIn(token);
}
