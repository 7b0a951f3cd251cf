"""The browser's side: reads inputs, calls one function of the core, formats the answer."""
