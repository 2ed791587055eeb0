"""Floor 6: the HTTP door and the door for agents. Both turn what comes in into jobs, and jobs into what goes out."""
