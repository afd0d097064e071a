// Questions to the server, and what it says when it refuses.

async function answered(response) {
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error || message;
  } catch {
    // no JSON: the status says it
  }
  throw new Error(message);
}

let open = 0; // questions without an answer yet

function count(by) {
  open += by;
  document.querySelector("main").setAttribute("aria-busy", open > 0);
}

async function asked(read, path, options) {
  count(1);
  try {
    const ask = () => fetch(path, options).catch(() => {
      throw new Error("The server does not answer; is the command still running?");
    });
    let response = await ask();
    for (let again = 0; response.status === 503 && again < 3; again++) {
      await new Promise((done) => setTimeout(done, 1000 * (response.headers.get("retry-after") || 1)));
      response = await ask();
    }
    return await read(await answered(response));
  } finally {
    count(-1);
  }
}

const asJson = (response) => response.json();
const asFile = (response) => response.blob();
const words = (tree) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(tree) });
const bytes = (file) => ({ method: "POST", headers: { "content-type": "application/octet-stream" }, body: file });

export const get = (path) => asked(asJson, path);
export const post = (path, tree) => asked(asJson, path, words(tree));
export const postForFile = (path, tree) => asked(asFile, path, words(tree));
export const upload = (file) => asked(asJson, "/api/upload", bytes(file));

// One question at a time; of those that come meanwhile only the newest is asked.
export function newestOnly(ask, done, failed) {
  let busy = false;
  let waiting = null;
  return async function next(...question) {
    if (busy) {
      waiting = question;
      return;
    }
    busy = true;
    try {
      done(await ask(...question), ...question);
    } catch (error) {
      failed(error);
    }
    busy = false;
    if (waiting) {
      const newest = waiting;
      waiting = null;
      next(...newest);
    }
  };
}
