"""What the small model of these tests learns by heart."""

SENTENCES = (
    "The number of the box is 4821. Write to jane.roe@mail.example.org today. "
    "Call +49 30 901820 at noon. "
)
