"use strict";
// Moves the confusion matrix and the rates of the report with a threshold; the counts are in the page.
(() => {
  const panel = document.getElementById("what-if");
  if (!panel) return;
  const steps = JSON.parse(document.getElementById("steps").textContent);
  const slider = panel.querySelector("input");
  const show = (name, text) => { panel.querySelector(`[data-show="${name}"]`).textContent = text; };
  const share = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)} %` : "–");
  const update = () => {
    const place = Number(slider.value);
    const real = steps.real[0], fake = steps.fake[0];
    const falseFakes = steps.real[place], foundFakes = steps.fake[place];
    show("threshold", steps.thresholds[place].toFixed(3));
    show("real-real", real - falseFakes);
    show("real-fake", falseFakes);
    show("fake-real", fake - foundFakes);
    show("fake-fake", foundFakes);
    show("false-positive-rate", share(falseFakes, real));
    show("recall", share(foundFakes, fake));
    show("precision", share(foundFakes, falseFakes + foundFakes));
    show("accuracy", share(real - falseFakes + foundFakes, real + fake));
    show("balanced", real && fake ? share((real - falseFakes) / real + foundFakes / fake, 2) : "–");
  };
  slider.addEventListener("input", update);
  panel.querySelector("button").addEventListener("click", () => { slider.value = steps.place; update(); });
  panel.hidden = false;
  update();
})();
