"""How is somebody's model file taken: imported, built, asked, and what went wrong said?"""
