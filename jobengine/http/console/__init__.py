"""The console: a static page that speaks the public API, served without a build step."""
