// Keeps the page fresh without losing what the reader has open, and sends what its buttons ask for to the
// JSON API. Markup is only ever parsed by the browser from this page's own address, never made of text.
"use strict";

(() => {
  const EVERY = 10_000;
  const TOKEN = "r2-exporter-token";
  const byId = (id) => document.getElementById(id);
  const live = byId("live");
  const follow = () => byId("follow")?.checked ?? true;

  document.documentElement.classList.add("js");

  // --- refreshing ---

  let asking = null;

  function address() {
    const url = new URL(location.href);
    const words = byId("filter")?.value.trim() ?? "";
    if (words !== (url.searchParams.get("q") ?? "")) url.searchParams.delete("page");
    words ? url.searchParams.set("q", words) : url.searchParams.delete("q");
    url.searchParams.delete("open");
    url.hash = "";
    return url;
  }

  function refresh() {
    asking?.abort();
    const shown = address();
    const url = new URL(shown);
    url.searchParams.append("open", "");
    for (const target of live.querySelectorAll("details.target[open]")) url.searchParams.append("open", target.dataset.key);
    const request = (asking = new XMLHttpRequest());
    return new Promise((done) => {
      request.open("GET", url);
      request.responseType = "document";
      request.timeout = 30_000;
      request.onload = () => {
        const fresh = request.status === 200 && request.response?.getElementById("live");
        if (fresh) show(request.response, fresh, shown);
        else stale(`the exporter answered ${request.status}`);
      };
      request.onerror = () => stale("the exporter does not answer");
      request.ontimeout = request.onerror;
      request.onloadend = () => {
        if (asking === request) asking = null;
        done();
      };
      request.send();
    });
  }

  function show(page, fresh, shown) {
    const before = byId("verdict").textContent;
    const focused = document.activeElement;
    const home = focused.closest("details.target")?.id;
    renew(live, fresh);
    shownAt = performance.now();
    if (focused !== document.activeElement) {
      const next = document.contains(focused) ? focused : (byId(home)?.querySelector("summary") ?? byId("targets"));
      next.focus({ preventScroll: true });
    }
    document.title = page.title;
    const icon = page.querySelector("link[rel=icon]").getAttribute("href");
    const shownIcon = document.querySelector("link[rel=icon]");
    if (shownIcon.getAttribute("href") !== icon) shownIcon.setAttribute("href", icon);
    if (shown.href !== location.href.replace(location.hash, "")) history.replaceState(null, "", shown);
    const after = byId("verdict").textContent;
    if (after !== before) byId("said").textContent = after;
  }

  // Counts down to a breaker's next try between two refreshes.
  let shownAt = performance.now();
  function tick() {
    const passed = (performance.now() - shownAt) / 1000;
    for (const node of live.querySelectorAll("[data-retry]")) {
      const text = [...node.childNodes].find(({ data }) => data?.includes("next try in"));
      const left = Math.max(0, Math.ceil(node.dataset.retry - passed));
      if (text) text.data = text.data.replace(/in \d+ s/, `in ${left} s`);
    }
  }

  function stale(why) {
    const said = `Not refreshed: ${why}.`;
    if (byId("done").textContent !== said) tell(byId("done"), said, true);
  }

  // Makes `old` like `fresh` with as few changes as it takes: nodes stay the same ones, and so do focus,
  // selection and what is open or typed, even where one with an id moves to another place.
  function renew(old, fresh) {
    const left = new Set();
    morph(old, fresh, left);
    for (const node of left) if (!isRead(node)) node.remove();
  }

  function morph(old, fresh, left) {
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !ours(old, name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value && !ours(old, name)) old.setAttribute(name, value);
    }
    if (old.hasAttribute("data-keep")) return;
    let place = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const node = wanted.id ? live.querySelector(`#${CSS.escape(wanted.id)}`) : alike(place, wanted) ? place : null;
      if (!node || node.nodeName !== wanted.nodeName) {
        old.insertBefore(document.importNode(wanted, true), place);
        continue;
      }
      left.delete(node);
      if (node === place) place = place.nextSibling;
      else old.insertBefore(node, place);
      if (node.nodeType === Node.ELEMENT_NODE) morph(node, wanted, left);
      else if (node.data !== wanted.data) node.data = wanted.data;
    }
    for (; place; place = place.nextSibling) left.add(place);
  }

  const ours = (node, name) => name === "open" || name === "aria-busy" || (name === "class" && node.hasAttribute("data-keep"));
  const alike = (node, wanted) => node && !node.id && node.nodeType === wanted.nodeType && node.nodeName === wanted.nodeName;
  // The reader has it open, though newer ones have taken its place.
  const isRead = (node) => node.nodeName === "DETAILS" && node.open && node.classList.contains("probe");

  // --- what the buttons do ---

  const ACTIONS = {
    check: (target) => [`api/health/check?${query({ target })}`, {}],
    reset: (target) => [`api/health/circuit-breaker/reset?${query({ target })}`, {}],
    stop: (target) => [`api/health/monitoring/stop?${query({ target })}`, {}],
    start: (target) => [`api/health/monitoring/start?${query({ target })}`, {}],
  };
  const DONE = {
    check: (answer) => answer.results.flatMap((each) => each.operations.map(found)).join(", "),
    reset: () => "The breaker is closed.",
    stop: () => "Probing is paused.",
    start: () => "Probing goes on.",
  };
  const query = (values) => new URLSearchParams(values).toString();

  function found({ operation, result, duration, reason }) {
    if (result === "success") return `${operation} ${Math.round(duration)} ms`;
    return `${operation} ${result === "skipped" ? "skipped" : "failed"}: ${reason.replaceAll("_", " ")}`;
  }

  async function act(button, output, path, body, worded) {
    if (button.getAttribute("aria-busy") === "true") return false;
    button.setAttribute("aria-busy", "true");
    tell(output, "…");
    try {
      const answer = await write(path, body);
      tell(output, answer ? worded(answer) : "Nothing was done.", answer?.success === false);
      return answer !== null;
    } catch (error) {
      tell(output, error.message, true);
      return false;
    } finally {
      button.removeAttribute("aria-busy");
      await refresh();
    }
  }

  // The answer, or null if the reader has no token to give. Throws what the API says against it.
  async function write(path, body) {
    for (let token = sessionStorage.getItem(TOKEN); ; ) {
      const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
      const request = { method: "POST", headers, body: JSON.stringify(body), redirect: "error" };
      const response = await fetch(path, request).catch(() => {
        throw new Error("The exporter does not answer.");
      });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) return answer;
      const message = answer.error?.message ?? `The exporter answered ${response.status}.`;
      if (response.status !== 401 && answer.error?.code !== "insufficient_scope") throw new Error(message);
      sessionStorage.removeItem(TOKEN);
      token = await ask(token ? message : "");
      if (!token) return null;
      sessionStorage.setItem(TOKEN, token);
    }
  }

  function ask(why) {
    const dialog = byId("ask");
    const field = byId("token");
    byId("ask-why").textContent = why;
    field.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    field.focus();
    return new Promise((done) => {
      const closed = () => done(dialog.returnValue === "ok" ? field.value.trim() : "");
      dialog.addEventListener("close", closed, { once: true });
    });
  }

  function tell(output, text, failed = false) {
    output.textContent = text;
    output.classList.toggle("failed", failed);
  }

  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-act]");
    if (!button) return;
    const { act: name, target: of } = button.dataset;
    const [path, body] = ACTIONS[name](of);
    act(button, button.parentElement.querySelector("output"), path, body, DONE[name]);
  });
  byId("ask-cancel").addEventListener("click", () => byId("ask").close(""));

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (form.getAttribute("role") === "search") {
      event.preventDefault();
      refresh();
    }
    if (form.dataset.act !== "resolve") return;
    event.preventDefault();
    const notes = form.querySelector("textarea").value.trim();
    const path = `api/health/alerts/${form.dataset.alert}/resolve`;
    const worded = ({ target, type }) => `Resolved: ${type.replaceAll("_", " ")} of ${target}.`;
    const done = await act(form.querySelector("button"), byId("done"), path, notes ? { notes } : {}, worded);
    if (done) (byId("alerts") ?? byId("targets")).focus({ preventScroll: true });
  });

  // --- when to refresh ---

  let typing;
  document.addEventListener("input", ({ target }) => {
    if (target.id !== "filter") return;
    clearTimeout(typing);
    typing = setTimeout(refresh, 200);
  });
  // `toggle` does not bubble. A target that was opened just now has nothing but a link inside.
  document.addEventListener(
    "toggle",
    ({ target }) => {
      if (target.open && target.querySelector(":scope > .lazy")) refresh();
    },
    true,
  );
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && follow()) refresh();
  });
  setInterval(() => {
    if (!document.hidden && follow() && !asking) refresh();
  }, EVERY);
  setInterval(() => {
    if (!document.hidden && follow()) tick();
  }, 1000);
})();
