"""How results leave and enter: verified run folders, submissions, what changed between two leaderboards, a server."""
