// A wide table scrolls by itself on a phone: let the keyboard reach it.
document$.subscribe(() => {
  for (const table of document.querySelectorAll(".md-typeset__scrollwrap")) table.tabIndex = 0;
});
