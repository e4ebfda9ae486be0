"""What collecting episodes and playing them needs: who acts, which keys mean what, an episode while it goes on."""
