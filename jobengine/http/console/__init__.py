"""The console: a page and its modules, which speak the public API; served without a build step.

`app.js` registers the pages, one module each in `views/`. What they share: `session` (token and
tenant), `api` (requests), `feed` (live events), `router` (addresses), `parts` (what is drawn).
Libraries are in `vendor/`, unmodified.
"""
