(() => {
  const choices = [...document.querySelectorAll('input[name="language"]')];
  const show = () => { document.documentElement.lang = choices.find(each => each.checked).value; };
  if (location.hash === "#km") { choices.find(each => each.value === "km").checked = true; }
  choices.forEach(each => each.addEventListener("change", show));
  show();
})();
