"""Engines that run programs: Docker and WASM, their workspaces, limits and captured output."""
