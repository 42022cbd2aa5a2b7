"""Teaching at the page: the session of one person, its images, its builds, trial and release."""
